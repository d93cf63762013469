-- uses: guard, barrier
-- The atomic step of a task that is a part: its record, its places, the claim on the due body.
-- KEYS: record, then the chord's. ARGV as `settle`, then: group id, the part's value or '', token or '',
-- lease in milliseconds, the prefix of records, task id.
-- Returns {landed, state stored now, claimed}; {payload} where a client must look first.
local landed, state = write(KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], {ARGV[5], ARGV[6], ARGV[7]})
if landed == nil then return {redis.call('GET', KEYS[1])} end
local claimed = 0
if is_ready(state) then
  local chord = chord_at(2, ARGV[8])
  local barrier = standing(chord, ARGV[12])
  if barrier then
    count(chord, barrier, ARGV[13], state, landed and ARGV[9] or '')
    claimed = conclude(chord, barrier, ARGV[10], ARGV[11])
  end
end
return {landed and 1 or 0, state, claimed}
