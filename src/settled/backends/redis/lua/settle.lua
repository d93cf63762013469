-- One record. KEYS: record. ARGV: payload, state, attempt, milliseconds to live or '', and what a client
-- saw of a record that cannot be read here: digest, state, attempt.
-- Returns 1 if it landed, else the state stored now; {payload} where a client must look first.
-- uses: fresh
if fresh then return 1 end
-- uses: guard
local landed, now = write(KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], {ARGV[5], ARGV[6], ARGV[7]})
if landed then return 1 end
if landed == nil then return {redis.call('GET', KEYS[1])} end
return now
