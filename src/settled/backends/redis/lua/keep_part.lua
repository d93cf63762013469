-- uses: guard, barrier, foreign
-- Keep a part, by the record that its client has read, where Celery's workers count. KEYS: the chord's. ARGV: group
-- id, task id, its place by Celery or '', value, state, the part that it takes the place of or '' where that was not
-- looked for, 1 if Celery keeps parts in a list, milliseconds for which it keeps them or '', token or '', lease in
-- milliseconds, the prefix of records.
-- Returns {1 if the claim is held, 1 if an earlier part is to be looked for}.
local chord = chord_at(1, ARGV[1])
local barrier = standing(chord, ARGV[11])
if not barrier then return {0, 0} end
local task_id, value, old, listed = ARGV[2], ARGV[4], ARGV[6], ARGV[7] == '1'

-- How Celery names the task among the counted: where its place is not known here, as it is there already.
local function name_of_part()
  if ARGV[3] ~= '' then return task_id .. ':' .. ARGV[3] end
  for _, entry in ipairs(redis.call('SMEMBERS', chord.counted)) do
    if string.match(entry, '^(.*):[^:]*$') == task_id then return entry end
  end
  return task_id .. ':+inf'
end

local member = name_of_part()
local place = string.match(member, '[^:]*$')
local part = {member = member, place = place, value = value, listed = listed}
local unkept = 1
if old ~= '' then
  unkept = 0
  local taken
  if listed then taken = redis.call('LREM', chord.parts, 1, old) else taken = redis.call('ZREM', chord.parts, old) end
  if taken == 1 then put(chord, place, part, true) end
elseif barrier.foreign then
  unkept = count_foreign(chord, barrier, ARGV[5], part, ARGV[8]) or 0
end
return {conclude(chord, barrier, ARGV[9], ARGV[10]), unkept}
