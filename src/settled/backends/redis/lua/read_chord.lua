-- uses: guard, barrier
-- The barrier as it stands. KEYS: the chord's. ARGV: group id, the prefix of records.
-- Returns {1 if done, own fields, members, size}; an empty array if there is none.
local chord = chord_at(1, ARGV[1])
if redis.call('EXISTS', chord.own) == 0 then return {} end
local barrier = standing(chord, ARGV[2], true)
if barrier and barrier.changed then conclude(chord, barrier, '', '0') end
local own = redis.call('HMGET', chord.own, 'body', 'body_id', 'policy', 'size')
return {barrier and 0 or 1, own[1] or '', own[2], own[3], redis.call('HGETALL', chord.members), own[4] or '0'}
