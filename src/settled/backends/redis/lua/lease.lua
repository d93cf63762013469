-- Take, extend or let go of leases. KEYS: one each. ARGV: token, milliseconds (0: let go).
-- Returns the numbers of those now held.
local held = {}
for number, key in ipairs(KEYS) do
  local holder = redis.call('GET', key)
  if ARGV[2] == '0' then
    if holder == ARGV[1] then redis.call('DEL', key) end
  elseif not holder or holder == ARGV[1] then
    redis.call('SET', key, ARGV[1], 'PX', ARGV[2])
    held[#held + 1] = number
  end
end
return held
