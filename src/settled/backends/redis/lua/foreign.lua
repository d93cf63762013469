-- Count a part of a foreign chord as Celery's own script does, once; a SUCCESS takes the place of what was kept of
-- the task before. `part` has its value, its place, whether parts are listed, and how Celery names it among the counted.
-- Celery lets its keys expire `life` after each part: here none is made to expire sooner than it would.
-- Returns 1 where only a client can tell what was kept before.
local function count_foreign(chord, barrier, state, part, life)
  local unkept
  if redis.call('SISMEMBER', chord.counted, part.member) == 0 then
    put(chord, part.place, part, true)
    redis.call('SADD', chord.counted, part.member)
    barrier.counted = barrier.counted + 1
  elseif state == 'SUCCESS' and not put(chord, part.place, part, false) then
    unkept = 1
  end
  if life == '' or redis.call('PTTL', chord.size) == -1 then return unkept end
  if barrier.counted > 1 and redis.call('PTTL', chord.counted) == -1 then return unkept end
  for _, key in ipairs({chord.parts, chord.counted, chord.size, chord.growth, string.sub(chord.own, 1, -3)}) do
    local left = redis.call('PTTL', key)
    if left ~= -2 and left < tonumber(life) then redis.call('PEXPIRE', key, life) end
  end
  return unkept
end
