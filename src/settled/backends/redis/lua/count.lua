-- uses: guard, barrier
-- Count members from their records. KEYS: the chord's, then the records. ARGV: group id, token or '', lease in
-- milliseconds, the prefix of records, 1 if the expired are counted too, then for each member its id and, where
-- the caller has read its record, state and milliseconds left to live; no record keys are given then.
-- Returns {1 if the claim is held, the ids whose records only a client can read, those that were seen and are
-- gone before their time}.
local chord = chord_at(1, ARGV[1])
local barrier = standing(chord, ARGV[4], true)
if not barrier then
  finish(chord)
  return {0, {}, {}}
end
see_members(chord, barrier)

-- A member without a record has expired if it was seen unready and its time is over; else it was forgotten.
local gone = {}
local function note(task_id, is_there, left)
  local seen = 'seen:' .. task_id
  if is_there then
    if left > 0 then redis.call('HSET', chord.own, seen, now_in_ms() + left) end
  else
    local until_ms = tonumber(redis.call('HGET', chord.own, seen) or nil)
    if until_ms and until_ms <= now_in_ms() then
      count(chord, barrier, task_id, 'EXPIRED', '')
    elseif until_ms then
      redis.call('HDEL', chord.own, seen)
      gone[#gone + 1] = task_id
    end
  end
end

local unread = {}
for at = 6, #ARGV, 3 do
  local record = KEYS[CHORD_KEYS + (at - 6) / 3 + 1]
  local state = ARGV[at + 1]
  if record then state = state_at(record) elseif state == '' then state = nil end
  if state == false then unread[#unread + 1] = ARGV[at] end
  if state and is_ready(state) then
    count(chord, barrier, ARGV[at], state, '')
  elseif ARGV[5] == '1' then
    note(ARGV[at], state ~= nil, record and redis.call('PTTL', record) or tonumber(ARGV[at + 2]))
  end
end
return {conclude(chord, barrier, ARGV[2], ARGV[3]), unread, gone}
