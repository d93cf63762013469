-- uses: guard, barrier
-- Continue a chord that Celery has opened. KEYS: the chord's. ARGV: group id, body, body id, policy, milliseconds
-- until the first recount, milliseconds for which Celery keeps its keys or ''.
local chord = chord_at(1, ARGV[1])
local known = redis.call('EXISTS', chord.own) == 1
-- One that is known; but for a new run by Celery, which has a size and no mark, of one that was opened here.
if known and redis.call('HEXISTS', chord.own, 'done') == 0 then return end
if redis.call('GET', chord.claim) == 'done' or (known and redis.call('EXISTS', chord.size) == 0) then return end
if known then redis.call('UNLINK', chord.own) end
redis.call('HSET', chord.own, 'foreign', 1, 'body', ARGV[2], 'body_id', ARGV[3], 'policy', ARGV[4], 'size', 0)
if ARGV[6] ~= '' then redis.call('HSET', chord.own, 'until', now_in_ms() + tonumber(ARGV[6])) end
redis.call('ZADD', chord.open, now_in_ms() + tonumber(ARGV[5]), ARGV[1])
