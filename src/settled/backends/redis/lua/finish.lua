-- uses: guard, barrier
-- Set the done marker, for this program and for Celery's; the members and the body go.
-- KEYS: the chord's. ARGV: group id, milliseconds for which the marker stays.
local chord = chord_at(1, ARGV[1])
redis.call('ZREM', chord.due, ARGV[1])
redis.call('ZREM', chord.open, ARGV[1])
if redis.call('EXISTS', chord.own) == 0 or redis.call('HEXISTS', chord.own, 'done') == 1 then return end
local own = redis.call('HMGET', chord.own, 'body_id', 'policy', 'size')
redis.call('UNLINK', chord.own, chord.members, chord.parts, chord.counted, chord.size, chord.growth)
redis.call('HSET', chord.own, 'body_id', own[1], 'policy', own[2], 'size', own[3], 'done', now_in_ms())
redis.call('PEXPIRE', chord.own, ARGV[2])
redis.call('SET', chord.claim, 'done', 'PX', ARGV[2])
