-- uses: guard, barrier
-- Count members from their records. KEYS: the chord's, then the records. ARGV: group id, token or '', lease in
-- milliseconds, the prefix of records, 1 if the expired are counted too, then for each member its id and, where
-- the caller has read its record, state and milliseconds left to live; no record keys are given then.
-- Returns {1 if the claim is held, the ids whose records only a client can read, those that were seen and are
-- gone before their time}; of a foreign chord, {-1 where only a client can count these, {}, {}, what was seen of it}.
local chord = chord_at(1, ARGV[1])
local barrier = standing(chord, ARGV[4], true)
if not barrier then
  finish(chord)
  return {0, {}, {}}
end

-- For so many milliseconds Celery's workers mark what they have sent, at least.
local CELERYS_DONE = 300000

-- What has become of a foreign chord that is not complete: nil where it goes on.
local function ending()
  local now, there, for_ever, last = now_in_ms(), false, false, 0
  for _, key in ipairs({chord.counted, chord.parts, chord.size}) do
    local left = redis.call('PTTL', key)
    there, for_ever, last = there or left ~= -2, for_ever or left == -1, math.max(last, left)
  end
  local own = redis.call('HMGET', chord.own, 'body_id', 'seen', 'until', 'sized', 'sent')
  local state = state_at(ARGV[4] .. own[1])
  local begun = state ~= nil and state ~= 'PENDING'
  if there then
    local ends = for_ever and '' or now + last
    redis.call('HSET', chord.own, 'seen', now, 'until', ends)
    -- A worker of Celery that has failed the body takes away the size, and leaves the rest to expire.
    if barrier.size == math.huge and (begun or own[4]) then
      redis.call('HSET', chord.own, 'sent', 1)
      redis.call('ZADD', chord.open, ends ~= '' and ends or now + DONE_LIFE, ARGV[1])
    end
    return nil
  end
  if begun then return 'ended' end
  if own[5] then return 'dropped' end
  local seen, until_ms = tonumber(own[2] or nil), tonumber(own[3] or nil)
  if (until_ms and until_ms <= now) or (seen and now - seen < CELERYS_DONE) then return 'lost' end
  return seen and 'dropped' or nil
end

if barrier.foreign then
  if #ARGV > 5 then return {-1, {}, {}} end
  local found = ARGV[5] == '1' and not barrier.token and not is_complete(chord, barrier) and ending()
  if found == 'lost' then
    redis.call('HSET', chord.own, 'lost', 1)
    barrier.lost = true
  elseif found then
    redis.call('ZREM', chord.due, ARGV[1])
    redis.call('ZREM', chord.open, ARGV[1])
    redis.call('HSET', chord.own, 'done', now_in_ms())
    redis.call('PEXPIRE', chord.own, DONE_LIFE)
    return {0, {}, {}, found}
  end
  return {conclude(chord, barrier, ARGV[2], ARGV[3]), {}, {}, found or nil}
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
      count(chord, barrier, task_id, 'EXPIRED')
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
    count(chord, barrier, ARGV[at], state)
  elseif ARGV[5] == '1' then
    note(ARGV[at], state ~= nil, record and redis.call('PTTL', record) or tonumber(ARGV[at + 2]))
  end
end
return {conclude(chord, barrier, ARGV[2], ARGV[3]), unread, gone}
