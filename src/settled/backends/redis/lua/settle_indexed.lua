-- uses: guard, barrier, part, index
-- The atomic step of a store with an index. KEYS: record, then the chord's if it is a part. ARGV: as `settle_part`
-- ('' for the group of no part), then the index's name, name, worker, queue, group, parent and root.
-- Returns {landed, state stored now, claimed}; {payload} where a client must look first.
local landed, state = write(KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], {ARGV[5], ARGV[6], ARGV[7]})
if landed == nil then return {redis.call('GET', KEYS[1])} end
if landed then
  index_row(ARGV[14], ARGV[13], state, tonumber(ARGV[3]), ARGV[4], #ARGV[1], {unpack(ARGV, 15, 20)})
end
return {landed and 1 or 0, state, ARGV[8] ~= '' and count_part(state, landed) or 0}
