-- Chords that are due, and open ones that nobody has recounted for a while. KEYS: due, open.
-- ARGV: at most so many due ones, at most so many to recount, milliseconds until the next recount.
-- Returns {due, to recount}; who is told to recount a chord is the only one until then.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local stale = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, ARGV[2])
for _, group_id in ipairs(stale) do redis.call('ZADD', KEYS[2], now + tonumber(ARGV[3]), group_id) end
return {redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1]), stale}
