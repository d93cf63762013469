-- The atomic step of a task that is a part: its record, its places, the claim on the due body.
-- KEYS: record, then the chord's. ARGV as `settle`, then: group id, the part's value or '', token or '',
-- lease in milliseconds, the prefix of records, task id, its place by Celery or '', 1 if Celery keeps parts in a
-- list, milliseconds for which it keeps them or ''.
-- Returns {landed, state stored now, claimed}, and 1 where a client must see to the part; {payload} where a client
-- must look first.
-- uses: fresh, guard, barrier, foreign, part
local landed, state = true, ARGV[2]
if not fresh then
  landed, state = write(KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], {ARGV[5], ARGV[6], ARGV[7]})
end
if landed == nil then return {redis.call('GET', KEYS[1])} end
return {landed and 1 or 0, state, count_part(state, landed)}
