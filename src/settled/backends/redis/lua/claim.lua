-- uses: guard, barrier
-- Take or extend the claim on a complete chord. KEYS: the chord's. ARGV: group id, token, lease in
-- milliseconds, the prefix of records. Returns 1 if it is held; -1 if the barrier is lost.
local chord = chord_at(1, ARGV[1])
local barrier = standing(chord, ARGV[4])
if not barrier then return finish(chord) and -1 or 0 end
-- What Celery takes its size from again is not due any more.
if barrier.foreign and not is_complete(chord, barrier) then redis.call('ZREM', chord.due, ARGV[1]) end
return conclude(chord, barrier, ARGV[2], ARGV[3])
