-- uses: guard, index
-- One page of an index, the latest write first. ARGV: the index's name, the sorted set, latest and earliest
-- time, how many of the latest to pass over, how many to look at, the prefix of records.
-- Returns {where the next page begins: latest time, how many to pass over, then id, row, id, row, ...}, empty at
-- the end. Rows whose record is gone are let go of, by those who may write.
local index = ARGV[1]
local ids = redis.call('ZREVRANGEBYSCORE', ARGV[2], ARGV[3], ARGV[4], 'WITHSCORES', 'LIMIT', ARGV[5], ARGV[6])
if #ids == 0 then return {} end
local last = ids[#ids]
local found = {last, last == ARGV[3] and tonumber(ARGV[5]) or 0}
for at = 1, #ids, 2 do
  local task_id = ids[at]
  local held = redis.call('HGET', index, task_id)
  local stays = true
  if held and redis.call('EXISTS', ARGV[7] .. task_id) == 1 then
    found[#found + 1] = task_id
    found[#found + 1] = held
  elseif held then
    stays = not pcall(unindex, index, task_id, held)
  else
    stays = redis.pcall('ZREM', ARGV[2], task_id) ~= 1
  end
  if stays and ids[at + 1] == last then found[2] = found[2] + 1 end
end
return found
