-- uses: guard, index
-- One page of an index, the latest write first. ARGV: the index's name, the sorted set, latest and earliest
-- time, how many to pass over, how many to look at, the prefix of records.
-- Returns {how many were looked at, id, row, id, row, ...}; rows whose record is gone are let go of.
local index = ARGV[1]
local ids = redis.call('ZREVRANGEBYSCORE', ARGV[2], ARGV[3], ARGV[4], 'LIMIT', ARGV[5], ARGV[6])
local found = {0}
for _, task_id in ipairs(ids) do
  local held = redis.call('HGET', index, task_id)
  if held and redis.call('EXISTS', ARGV[7] .. task_id) == 1 then
    found[1] = found[1] + 1
    found[#found + 1] = task_id
    found[#found + 1] = held
  elseif held then
    unindex(index, task_id, held)
  else
    redis.call('ZREM', ARGV[2], task_id)
  end
end
if #ids == 0 then found[1] = -1 end
return found
