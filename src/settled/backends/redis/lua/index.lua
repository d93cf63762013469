-- The index: a hash of rows by task id, and sorted sets of ids by the time of their latest write: of all, of
-- each state, name and group, and one by the time at which they expire.
-- A row is {state, name, worker, queue, group, parent, root, attempt, created, started, done, expires, size, updated}.

local STATE, NAME, GROUP, CREATED, STARTED_AT, EXPIRES = 1, 2, 5, 9, 10, 12

local function now_in_seconds()
  local time = redis.call('TIME')
  return time[1] + time[2] / 1000000
end

-- The row that is packed in `held`; an empty one where that is damaged.
local function row_in(held)
  local read, row = pcall(cmsgpack.unpack, held)
  if not read or type(row) ~= 'table' or type(row[STATE]) ~= 'string' then return {} end
  for _, at in ipairs({EXPIRES, CREATED, STARTED_AT}) do
    if row[at] and type(row[at]) ~= 'number' then return {} end
  end
  for at = NAME, NAME + 5 do
    if type(row[at]) ~= 'string' then row[at] = false end
  end
  return row
end

-- The sorted sets that a row stands in, beside those of all rows.
local function sets_of(index, row)
  local sets = {}
  for at, name in pairs({[STATE] = ':s:', [NAME] = ':n:', [GROUP] = ':g:'}) do
    if type(row[at]) == 'string' then sets[#sets + 1] = index .. name .. row[at] end
  end
  return sets
end

local function unindex(index, task_id, held)
  for _, set in ipairs(sets_of(index, row_in(held))) do redis.call('ZREM', set, task_id) end
  redis.call('ZREM', index .. ':t', task_id)
  redis.call('ZREM', index .. ':x', task_id)
  redis.call('HDEL', index, task_id)
end

-- Let go of what has expired, twice as fast as rows are added.
local function trim(index, now)
  for _, task_id in ipairs(redis.call('ZRANGEBYSCORE', index .. ':x', '-inf', now, 'LIMIT', 0, 2)) do
    local held = redis.call('HGET', index, task_id)
    if held then unindex(index, task_id, held) else redis.call('ZREM', index .. ':x', task_id) end
  end
end

-- Index a record that was just written. `given` holds name, worker, queue, group, parent, root, '' where unknown.
local function index_row(index, task_id, state, attempt, ttl, size, given)
  local now = now_in_seconds()
  trim(index, now)
  local held = redis.call('HGET', index, task_id)
  local old = held and row_in(held) or {}
  if held then unindex(index, task_id, held) end
  if old[EXPIRES] and old[EXPIRES] <= now then old = {} end
  local row = {state}
  for at = 1, 6 do row[at + 1] = given[at] ~= '' and given[at] or old[at + 1] or false end
  row[8], row[9] = attempt, old[CREATED] or now
  row[STARTED_AT] = old[STARTED_AT] or (state == 'STARTED' and now) or false
  row[11] = is_ready(state) and now or false
  row[EXPIRES] = ttl ~= '' and now + tonumber(ttl) / 1000 or false
  row[13], row[14] = size, now
  redis.call('HSET', index, task_id, cmsgpack.pack(row))
  redis.call('ZADD', index .. ':t', now, task_id)
  for _, set in ipairs(sets_of(index, row)) do redis.call('ZADD', set, now, task_id) end
  if row[EXPIRES] then redis.call('ZADD', index .. ':x', row[EXPIRES], task_id) end
end
