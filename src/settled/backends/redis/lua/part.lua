-- Count the part of the record that was just written: the chord's keys follow it, ARGV are those of `settle_part`.
-- Returns 1 if the claim on the due body is held, else 0; and 1 where a client must see to the part that Celery's
-- workers hand over: only it can read the one that is there, or the record.
local function count_part(state, landed)
  if not is_ready(state) then return 0 end
  local chord = chord_at(2, ARGV[8])
  local barrier = standing(chord, ARGV[12])
  if not barrier then return 0 end
  local part = landed and ARGV[9] ~= '' and {value = ARGV[9], place = ARGV[14], listed = ARGV[15] == '1'}
  if not barrier.foreign then
    count(chord, barrier, ARGV[13], state, part)
  elseif part then
    if part.place == '' then part.place = '+inf' end
    part.member = ARGV[13] .. ':' .. part.place
    barrier.unkept = count_foreign(chord, barrier, state, part, ARGV[16])
  else
    barrier.unkept = 1
  end
  return conclude(chord, barrier, ARGV[10], ARGV[11]), barrier.unkept
end
