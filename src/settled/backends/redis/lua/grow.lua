-- uses: guard, barrier
-- Add members behind the others. KEYS: the chord's. ARGV: group id, the prefix of records, then the ids.
-- Returns the new size; of a foreign chord {what is known of it}; -1 if it is complete, done or was never opened.
local chord = chord_at(1, ARGV[1])
local barrier = standing(chord, ARGV[2])
if not barrier then return -1 end
if not barrier.foreign then see_members(chord, barrier) end
if is_complete(chord, barrier) then
  conclude(chord, barrier, '', '0')
  return -1
end
if barrier.foreign then
  for at = 3, #ARGV do
    if redis.call('HSETNX', chord.own, 'added:' .. ARGV[at], 1) == 1 then redis.call('INCRBY', chord.growth, 1) end
  end
  return {(redis.call('GET', chord.size) or 0) + (redis.call('GET', chord.growth) or 0)}
end
if barrier.shared then see_growth(chord, barrier) end
local named = barrier.size - barrier.unnamed
local added = 0
for at = 3, #ARGV do
  if redis.call('HSETNX', chord.members, ARGV[at], '-' .. named + added) == 1 then added = added + 1 end
end
barrier.size = barrier.size + added
redis.call('HSET', chord.own, 'size', barrier.size)
if barrier.shared and added > 0 then
  redis.call('HSET', chord.own, 'grown', redis.call('INCRBY', chord.growth, added))
end
conclude(chord, barrier, '', '0')
return barrier.size
