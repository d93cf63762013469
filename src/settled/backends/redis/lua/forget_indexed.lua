-- uses: guard, index
-- Delete records and their rows. KEYS: the records. ARGV: the index's name, then the task ids.
for _, record in ipairs(KEYS) do redis.call('UNLINK', record) end
for at = 2, #ARGV do
  local held = redis.call('HGET', ARGV[1], ARGV[at])
  if held then unindex(ARGV[1], ARGV[at], held) end
end
