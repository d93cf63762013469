-- A chord's barrier. Members are the fields of a hash: task id -> a letter for what the member was counted
-- as, then its places in the header, as "S0" or "-2,5". The letter is - for a member not counted yet.
-- A barrier is foreign where Celery has opened the chord: no members are known, and parts are counted by number.

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

-- Put a part among the others, in Celery's form: a list where it keeps no places. One that is not `fresh` takes the
-- place of an earlier one; false where only a client can tell which that is.
local function put(chord, place, part, fresh)
  if not fresh then
    local there = not part.listed and redis.call('ZRANGEBYSCORE', chord.parts, place, place)
    if not there or #there > 1 then return false end
    if there[1] and there[1] ~= part.value then redis.call('ZREM', chord.parts, there[1]) end
  end
  if part.listed then
    redis.call('RPUSH', chord.parts, part.value)
  else
    redis.call('ZADD', chord.parts, place, part.value)
  end
  return true
end

-- Keep a part where Celery's workers count: by its places, once, in their form.
local function share(chord, barrier, task_id, places, part)
  -- A header that is nested, or has grown, has other places for Celery.
  if #places == 1 and part.place ~= '' then places[1] = part.place end
  for _, place in ipairs(places) do
    local fresh = redis.call('SADD', chord.counted, task_id .. ':' .. place)
    barrier.adopted = barrier.adopted + fresh
    if not put(chord, place, part, fresh == 1) then barrier.unkept = 1 end
  end
  barrier.changed = true
end

-- Where the server has evicted the members nobody can say what is still to come: the body is due, to fail.
local function see_members(chord, barrier)
  if barrier.size > 0 and redis.call('EXISTS', chord.members) == 0 then
    barrier.counted, barrier.failed, barrier.changed = barrier.size, barrier.size, true
    return true
  end
end

-- See how much Celery's workers have made the header grow: by members whose ids are not known before their parts.
-- Such a part makes `task_id` one of them, behind the others; returns it as it is kept, if it is one.
local function see_growth(chord, barrier, task_id)
  local growth = tonumber(redis.call('GET', chord.growth) or 0)
  if growth ~= barrier.grown then
    -- Less than before where the key has expired, and begun anew.
    local more = math.max(0, growth > barrier.grown and growth - barrier.grown or growth)
    barrier.size, barrier.unnamed, barrier.grown = barrier.size + more, barrier.unnamed + more, growth
    redis.call('HSET', chord.own, 'size', barrier.size, 'unnamed', barrier.unnamed, 'grown', growth)
  end
  if not task_id or barrier.unnamed < 1 then return nil end
  local member = '-' .. barrier.size - barrier.unnamed
  barrier.unnamed = barrier.unnamed - 1
  redis.call('HSET', chord.members, task_id, member)
  redis.call('HSET', chord.own, 'unnamed', barrier.unnamed)
  return member
end

-- Count a member as `state`; nothing if it is none, or was counted as something that stays. `part`: its value as
-- Celery's workers hand it over, its place by them ('': not known), and whether they keep parts in a list.
local function count(chord, barrier, task_id, state, part)
  local member = redis.call('HGET', chord.members, task_id)
  if not member then
    if see_members(chord, barrier) or not barrier.shared then return end
    member = see_growth(chord, barrier, task_id)
    if not member then return end
  end
  local before, letter, places = string.sub(member, 1, 1), LETTERS[state], {}
  for place in string.gmatch(member, '%d+') do places[#places + 1] = place end
  if before == 'S' or (before ~= '-' and letter == 'E') then
    -- Celery's worker may have counted it as failed, and it be counted here by the record that has just been written.
    if barrier.shared and part and letter == 'S' then share(chord, barrier, task_id, places, part) end
    return
  end
  if before == '-' then
    barrier.counted = barrier.counted + #places
    if letter ~= 'S' then barrier.failed = barrier.failed + #places end
  elseif letter == 'S' then
    barrier.failed = barrier.failed - #places
    barrier.reopened = true
  end
  if before ~= letter then redis.call('HSET', chord.members, task_id, letter .. string.sub(member, 2)) end
  barrier.changed = true
  if barrier.shared and part then share(chord, barrier, task_id, places, part) end
end

-- Count what Celery's own workers have added to their keys since the last look.
local function adopt(chord, barrier, record_prefix, exactly)
  local fresh = barrier.shared and redis.call('SCARD', chord.counted) - barrier.adopted or 0
  if fresh == 0 then return end
  -- To find them all are looked at: only where these, and a part that is about to be counted, could complete it.
  local named = redis.call('HLEN', chord.members)
  local places_apart = named == barrier.size - barrier.unnamed
  if not exactly and places_apart and barrier.policy ~= 'first' and barrier.counted + fresh + 1 < barrier.size then
    return
  end
  local added = redis.call('SMEMBERS', chord.counted)
  for _, entry in ipairs(added) do
    local task_id = string.match(entry, '^(.*):[^:]*$')
    local member = task_id and redis.call('HGET', chord.members, task_id)
    if task_id and not member and named > 0 then member = see_growth(chord, barrier, task_id) end
    if member and string.sub(member, 1, 1) == '-' then
      local state = state_at(record_prefix .. task_id)
      count(chord, barrier, task_id, state and is_ready(state) and state or 'SUCCESS')
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
  local own = redis.call('HMGET', chord.own, 'body_id', 'policy', 'size', 'foreign', 'body')
  redis.call('UNLINK', chord.own, chord.members, chord.parts, chord.counted, chord.size, chord.growth)
  redis.call('HSET', chord.own, 'body_id', own[1], 'policy', own[2], 'size', own[3], 'done', now_in_ms())
  -- Celery may apply the same chord again, and tells nobody its body.
  if own[4] then redis.call('HSET', chord.own, 'foreign', own[4], 'body', own[5] or '') end
  redis.call('PEXPIRE', chord.own, DONE_LIFE)
  redis.call('SET', chord.claim, 'done', 'PX', DONE_LIFE)
end

-- The counters of a foreign chord, as Celery's workers reckon them; nil if it is done.
local function foreign_standing(chord, done)
  local own = redis.call('HMGET', chord.own, 'policy', 'lost', 'body', 'body_id', 'sized')
  if done then
    -- Only a new run that Celery has begun has a size and no mark.
    if redis.call('GET', chord.claim) == 'done' or redis.call('EXISTS', chord.size) == 0 then return nil end
    redis.call('UNLINK', chord.own)
    redis.call('HSET', chord.own, 'foreign', 1, 'body', own[3], 'body_id', own[4], 'policy', own[1], 'size', 0)
    redis.call('ZADD', chord.open, now_in_ms(), chord.id)
    own[2], own[5] = false, false
  end
  local token = redis.call('GET', chord.claim)
  if token == 'done' then
    finish(chord)
    return nil
  end
  local size, total = redis.call('GET', chord.size), math.huge
  if size then
    total = size + (redis.call('GET', chord.growth) or 0)
    if not own[5] then redis.call('HSET', chord.own, 'sized', 1) end
  end
  if not (total >= 0) then error('its size is ' .. size) end
  return {
    foreign = true, size = total, counted = redis.call('SCARD', chord.counted), failed = 0, policy = own[1],
    token = token, lost = own[2],
  }
end

-- The counters of an open barrier; nil if it was never opened or is done. What Celery's workers have counted
-- is among them where it could complete the chord, or if it is asked for `exactly`.
local function standing(chord, record_prefix, exactly)
  local own = redis.call(
    'HMGET', chord.own, 'size', 'counted', 'failed', 'policy', 'adopted', 'done', 'foreign', 'unnamed', 'grown'
  )
  if own[7] then return foreign_standing(chord, own[6]) end
  if not own[1] or own[6] then return nil end
  local token = redis.call('GET', chord.claim)
  if token == 'done' then
    -- A worker of Celery has sent the body, and marks that for minutes only.
    finish(chord)
    return nil
  end
  local barrier = {
    size = tonumber(own[1]), counted = tonumber(own[2]), failed = tonumber(own[3]), policy = own[4],
    shared = own[5] ~= false, adopted = tonumber(own[5] or 0), token = token, unnamed = tonumber(own[8] or 0),
    grown = tonumber(own[9] or 0),
  }
  adopt(chord, barrier, record_prefix, exactly)
  if exactly and barrier.shared then see_growth(chord, barrier) end
  return barrier
end

local function is_complete(chord, barrier)
  if barrier.lost or (barrier.policy == 'first' and barrier.failed > 0) then return true end
  if barrier.shared and barrier.counted >= barrier.size then see_growth(chord, barrier) end
  return barrier.counted >= barrier.size
end

-- Store the counters. If the chord is complete, claim its body for `token` ('': leave it due);
-- returns 1 if the claim is held, else 0.
local function conclude(chord, barrier, token, lease)
  if barrier.changed then
    local adopted = barrier.shared and {'adopted', barrier.adopted} or {}
    redis.call('HSET', chord.own, 'counted', barrier.counted, 'failed', barrier.failed, unpack(adopted))
  end
  if not is_complete(chord, barrier) then
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
