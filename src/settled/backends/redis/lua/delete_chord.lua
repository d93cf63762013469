-- uses: guard, barrier
-- Delete a barrier. KEYS: the chord's. ARGV: group id.
local chord = chord_at(1, ARGV[1])
redis.call('ZREM', chord.due, ARGV[1])
redis.call('ZREM', chord.open, ARGV[1])
redis.call('UNLINK', chord.own, chord.members, chord.claim, chord.parts, chord.counted, chord.size, chord.growth)
