"""Thin layers between settled and other libraries: they translate, and decide nothing."""
