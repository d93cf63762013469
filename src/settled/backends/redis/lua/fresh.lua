-- The usual case, before anything that only the others need is made: no record is stored under KEYS[1] yet.
-- ARGV as `settle`.
local fresh
if ARGV[4] == '' then
  fresh = redis.call('SET', KEYS[1], ARGV[1], 'NX')
else
  fresh = redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[4], 'NX')
end
if fresh then redis.call(PUBLISH, KEYS[1], ARGV[1]) end
