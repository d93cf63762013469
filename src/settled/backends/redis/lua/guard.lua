-- The transition rule, and how a stored record's state is seen without decoding it.

local function is_ready(state)
  return state == 'SUCCESS' or state == 'FAILURE' or state == 'REVOKED'
end

local function rank(state)
  if is_ready(state) then return 3 end
  if state == 'PENDING' then return 0 end
  if state == 'RECEIVED' then return 1 end
  return 2
end

-- The state that the first bytes of a record tell; false where only a client can tell.
local function state_in(head)
  local state = string.match(head, '^{"status": ?"([^"\\]+)"')
  if state then return state end
  local first = string.byte(head)
  if first < 128 then return false end
  local from, to = string.find(head, 'status', 1, true)
  if not from or from > 30 then return false end
  local at, length = to + 1, nil
  local byte = string.byte(head, at)
  if first == 128 then
    -- Pickled: SHORT_BINUNICODE or BINUNICODE, after a memo.
    if byte == 148 then at = at + 1 elseif byte == 113 then at = at + 2 end
    byte, length = string.byte(head, at, at + 1)
    if byte == 140 then at = at + 2 elseif byte == 88 then at = at + 5 else return false end
  elseif string.byte(head, from - 1) == 166 and byte and byte > 160 and byte < 192 then
    -- In msgpack, a short string.
    at, length = at + 1, byte - 160
  end
  if not length or at + length - 1 > #head then return false end
  return string.sub(head, at, at + length - 1)
end

-- The state of the record under `key`: nil where there is none, false where only a client can tell.
local function state_at(key)
  local head = redis.pcall('GETRANGE', key, 0, 95)
  if head == '' then return nil end
  if type(head) ~= 'string' then
    if string.find(head.err, 'WRONGTYPE', 1, true) then return false end
    return redis.call('GETRANGE', key, 0, 95)
  end
  return state_in(head)
end

-- Whether the record under `key` gives way to a write of `state`, and the state it is in now.
-- `seen` is what a client made of a record that cannot be read here: its digest, state and attempt.
-- Returns nil where a client must look first.
local function gives_way(key, payload, state, attempt, seen)
  local old = state_at(key)
  if old == nil then return true, false end
  local old_attempt
  if old == false then
    if seen[1] == '' or redis.sha1hex(redis.call('GET', key)) ~= seen[1] then return nil end
    old, old_attempt = seen[2], tonumber(seen[3])
    if old == '' then return true, false end
  end
  if not is_ready(old) then return rank(state) >= rank(old), old end
  if old == 'SUCCESS' then
    -- A repeated write, its first reply lost, has landed.
    return state == 'SUCCESS' and redis.call('GET', key) == payload, old
  end
  if not is_ready(state) then return false, old end
  if not old_attempt then
    local read, record = pcall(cjson.decode, redis.call('GET', key))
    if read and type(record) == 'table' then old_attempt = tonumber(record.attempt) or 0 end
  end
  if not old_attempt then
    if seen[1] == '' or redis.sha1hex(redis.call('GET', key)) ~= seen[1] then return nil end
    old_attempt = tonumber(seen[3])
  end
  return attempt >= old_attempt, old
end

-- Write a record where the rule allows it, and tell who waits. Returns landed, the state stored now;
-- nil where a client must look at the record first.
local function write(key, payload, state, attempt, ttl, seen)
  local landed, old = gives_way(key, payload, state, attempt, seen)
  if landed == nil then return nil end
  if not landed then return false, old end
  if ttl == '' then
    redis.call('SET', key, payload)
  else
    redis.call('SET', key, payload, 'PX', ttl)
  end
  redis.call(PUBLISH, key, payload)
  return true, state
end
