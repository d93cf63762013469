-- uses: guard, barrier
-- The barrier as it stands. KEYS: the chord's. ARGV: group id, the prefix of records.
-- Returns {1 if done, body, body id, policy, members, size, how many of them are not named yet}; of a foreign chord
-- the counted in place of members, a size of -1 where it is not known and one of -2 where the chord is lost, and no
-- number of the unnamed; an empty array if there is none.
local chord = chord_at(1, ARGV[1])
if redis.call('EXISTS', chord.own) == 0 then return {} end
local barrier = standing(chord, ARGV[2], true)
if barrier and barrier.changed then conclude(chord, barrier, '', '0') end
local own = redis.call('HMGET', chord.own, 'body', 'body_id', 'policy', 'size', 'foreign')
local found = {barrier and 0 or 1, own[1] or '', own[2], own[3]}
if own[5] then
  found[5] = redis.call('SMEMBERS', chord.counted)
  found[6] = barrier and barrier.size or 0
  if found[6] == math.huge then found[6] = -1 end
  if barrier and barrier.lost then found[6] = -2 end
  found[6] = tostring(found[6])
else
  found[5], found[6] = redis.call('HGETALL', chord.members), own[4] or '0'
  found[7] = barrier and barrier.unnamed or 0
end
return found
