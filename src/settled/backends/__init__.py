"""Backends: the published interface (`base`) and the engines that ship with `settled`."""
