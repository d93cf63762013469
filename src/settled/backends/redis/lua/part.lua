-- Count the part of the record that was just written: the chord's keys follow it, ARGV are those of `settle_part`.
-- Returns 1 if the claim on the due body is held, else 0.
local function count_part(state, landed)
  if not is_ready(state) then return 0 end
  local chord = chord_at(2, ARGV[8])
  local barrier = standing(chord, ARGV[12])
  if not barrier then return 0 end
  count(chord, barrier, ARGV[13], state, landed and ARGV[9] or '')
  return conclude(chord, barrier, ARGV[10], ARGV[11])
end
