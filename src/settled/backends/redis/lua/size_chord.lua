-- uses: guard, barrier
-- Say how many parts a chord has that is counted as Celery does. KEYS: the chord's. ARGV: group id, size,
-- milliseconds for which Celery keeps its keys or '', the prefix of records.
local chord = chord_at(1, ARGV[1])
local kept = redis.call('EXISTS', chord.own) == 1
if kept and redis.call('HEXISTS', chord.own, 'foreign') == 0 then return end
redis.call('SET', chord.size, ARGV[2], unpack(ARGV[3] ~= '' and {'PX', ARGV[3]} or {}))
-- A done one is applied again. Whoever is just sending the body of another run goes on.
if redis.call('GET', chord.claim) == 'done' then redis.call('DEL', chord.claim) end
local barrier = kept and standing(chord, ARGV[4])
if barrier then conclude(chord, barrier, '', '0') end
