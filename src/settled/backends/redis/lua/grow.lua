-- uses: guard, barrier
-- Add members behind the others. KEYS: the chord's. ARGV: group id, the prefix of records, then the ids.
-- Returns the new size; -1 if the chord is complete, done or was never opened.
local chord = chord_at(1, ARGV[1])
local barrier = standing(chord, ARGV[2])
if not barrier then return -1 end
see_members(chord, barrier)
if is_complete(barrier) then
  conclude(chord, barrier, '', '0')
  return -1
end
local size = barrier.size
for at = 3, #ARGV do
  if redis.call('HSETNX', chord.members, ARGV[at], '-' .. size) == 1 then size = size + 1 end
end
redis.call('HSET', chord.own, 'size', size)
if barrier.shared and size > barrier.size then redis.call('INCRBY', chord.growth, size - barrier.size) end
barrier.size = size
conclude(chord, barrier, '', '0')
return size
