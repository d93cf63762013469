-- uses: guard, barrier, foreign, part, index
-- The atomic step of a store with an index. KEYS: record, then the chord's if it is a part. ARGV: as `settle_part`
-- ('' for the group of no part), then the index's name, name, worker, queue, group, parent and root.
-- Returns as `settle_part`.
local landed, state = write(KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], {ARGV[5], ARGV[6], ARGV[7]})
if landed == nil then return {redis.call('GET', KEYS[1])} end
if landed then
  index_row(ARGV[17], ARGV[13], state, tonumber(ARGV[3]), ARGV[4], #ARGV[1], {unpack(ARGV, 18, 23)})
end
if ARGV[8] == '' then return {landed and 1 or 0, state, 0} end
return {landed and 1 or 0, state, count_part(state, landed)}
