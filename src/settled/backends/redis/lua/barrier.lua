-- A chord's barrier. Members are the fields of a hash: task id -> a letter for what the member was counted
-- as, then its places in the header, as "S0" or "-2,5". The letter is - for a member not counted yet.

local LETTERS = {SUCCESS = 'S', FAILURE = 'F', REVOKED = 'R', EXPIRED = 'E'}

-- The chord whose keys begin at KEYS[first].
local function chord_at(first, group_id)
  return {
    id = group_id, own = KEYS[first], members = KEYS[first + 1], claim = KEYS[first + 2], due = KEYS[first + 3],
    open = KEYS[first + 4], parts = KEYS[first + 5], counted = KEYS[first + 6], size = KEYS[first + 7],
    growth = KEYS[first + 8],
  }
end
local CHORD_KEYS = 9

local function now_in_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function places_in(member)
  local places = {}
  for place in string.gmatch(member, '%d+') do places[#places + 1] = place end
  return places
end

-- Keep a part where Celery's workers count: by its place, once, in their form.
local function share(chord, barrier, task_id, place, value, replaces)
  local fresh = redis.call('SADD', chord.counted, task_id .. ':' .. place)
  if replaces or fresh == 0 then redis.call('ZREMRANGEBYSCORE', chord.parts, place, place) end
  redis.call('ZADD', chord.parts, place, value)
  barrier.adopted = barrier.adopted + fresh
end

-- Where the server has evicted the members nobody can say what is still to come: the body is due, to fail.
local function see_members(chord, barrier)
  if barrier.size > 0 and redis.call('EXISTS', chord.members) == 0 then
    barrier.counted, barrier.failed, barrier.changed = barrier.size, barrier.size, true
  end
end

-- Count a member as `state`; nothing if it is none, or was counted as something that stays.
local function count(chord, barrier, task_id, state, value)
  local member = redis.call('HGET', chord.members, task_id)
  if not member then return see_members(chord, barrier) end
  local before, letter = string.sub(member, 1, 1), LETTERS[state]
  if before == 'S' or (before ~= '-' and letter == 'E') then return end
  local places = places_in(member)
  if before == '-' then
    barrier.counted = barrier.counted + #places
    if letter ~= 'S' then barrier.failed = barrier.failed + #places end
  elseif letter == 'S' then
    barrier.failed = barrier.failed - #places
    barrier.reopened = true
  end
  if before ~= letter then redis.call('HSET', chord.members, task_id, letter .. string.sub(member, 2)) end
  barrier.changed = true
  if barrier.shared and value ~= '' then
    for _, place in ipairs(places) do share(chord, barrier, task_id, place, value, before ~= '-') end
  end
end

-- Count what Celery's own workers have added to their keys since the last look.
local function adopt(chord, barrier, record_prefix, exactly)
  local fresh = barrier.shared and redis.call('SCARD', chord.counted) - barrier.adopted or 0
  if fresh == 0 then return end
  -- To find them all are looked at: only where these, and a part that is about to be counted, could complete it.
  local places_apart = redis.call('HLEN', chord.members) == barrier.size
  if not exactly and places_apart and barrier.policy ~= 'first' and barrier.counted + fresh + 1 < barrier.size then
    return
  end
  local added = redis.call('SMEMBERS', chord.counted)
  for _, entry in ipairs(added) do
    local task_id = string.match(entry, '^(.*):[^:]*$')
    local member = task_id and redis.call('HGET', chord.members, task_id)
    if member and string.sub(member, 1, 1) == '-' then
      local state = state_at(record_prefix .. task_id)
      count(chord, barrier, task_id, state and is_ready(state) and state or 'SUCCESS', '')
    end
  end
  barrier.adopted = #added
  barrier.changed = true
end

-- Leave the done marker of a chord, for this program and for Celery's, and nothing else.
-- Returns true if it was still to be sent, and all that was known of it is lost.
local function finish(chord)
  local listed = redis.call('ZREM', chord.due, chord.id) + redis.call('ZREM', chord.open, chord.id)
  if redis.call('EXISTS', chord.own) == 0 then return listed > 0 end
  if redis.call('HEXISTS', chord.own, 'done') == 1 then return end
  local own = redis.call('HMGET', chord.own, 'body_id', 'policy', 'size')
  redis.call('UNLINK', chord.own, chord.members, chord.parts, chord.counted, chord.size, chord.growth)
  redis.call('HSET', chord.own, 'body_id', own[1], 'policy', own[2], 'size', own[3], 'done', now_in_ms())
  redis.call('PEXPIRE', chord.own, DONE_LIFE)
  redis.call('SET', chord.claim, 'done', 'PX', DONE_LIFE)
end

-- The counters of an open barrier; nil if it was never opened or is done. What Celery's workers have counted
-- is among them where it could complete the chord, or if it is asked for `exactly`.
local function standing(chord, record_prefix, exactly)
  local own = redis.call('HMGET', chord.own, 'size', 'counted', 'failed', 'policy', 'adopted', 'done')
  if not own[1] or own[6] then return nil end
  local token = redis.call('GET', chord.claim)
  if token == 'done' then
    -- A worker of Celery has sent the body, and marks that for minutes only.
    finish(chord)
    return nil
  end
  local barrier = {
    size = tonumber(own[1]), counted = tonumber(own[2]), failed = tonumber(own[3]), policy = own[4],
    shared = own[5] ~= false, adopted = tonumber(own[5] or 0), token = token,
  }
  adopt(chord, barrier, record_prefix, exactly)
  return barrier
end

local function is_complete(barrier)
  return barrier.counted >= barrier.size or (barrier.policy == 'first' and barrier.failed > 0)
end

-- Store the counters. If the chord is complete, claim its body for `token` ('': leave it due);
-- returns 1 if the claim is held, else 0.
local function conclude(chord, barrier, token, lease)
  if barrier.changed then
    redis.call('HSET', chord.own, 'counted', barrier.counted, 'failed', barrier.failed)
    if barrier.shared then redis.call('HSET', chord.own, 'adopted', barrier.adopted) end
  end
  if not is_complete(barrier) then
    if barrier.reopened then
      -- Whoever was about to fail the body finds the claim gone.
      redis.call('DEL', chord.claim)
      redis.call('ZREM', chord.due, chord.id)
    end
    return 0
  end
  if token ~= '' and (not barrier.token or barrier.token == token) then
    redis.call('SET', chord.claim, token, 'PX', lease)
    redis.call('ZADD', chord.due, now_in_ms() + tonumber(lease), chord.id)
    return 1
  end
  local wait = barrier.token and math.max(0, redis.call('PTTL', chord.claim)) or 0
  redis.call('ZADD', chord.due, 'NX', now_in_ms() + wait, chord.id)
  return 0
end
