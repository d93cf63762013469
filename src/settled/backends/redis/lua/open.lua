-- uses: guard, barrier
-- Open a barrier and count the members that are settled already. KEYS: the chord's, then the records of the
-- members. ARGV: group id, body, body id, policy, size, 1 if Celery's workers count it too, 2 if they send its
-- body as well (which they do when there is a size), milliseconds until the first recount, token or '', lease in
-- milliseconds, the prefix of records, '', then for each member its id, the member as it is kept, and its state
-- where the caller has read it ('' none yet) and no record keys are given.
-- With 'staged' in place of the '' the members are in the hash under the key behind the chord's, not counted yet.
-- Returns {1 if the claim is held, the ids whose records only a client can read}.
local chord = chord_at(1, ARGV[1])
local token, lease = ARGV[8], ARGV[9]
local staged = ARGV[11] == 'staged' and KEYS[CHORD_KEYS + 1]
local barrier = standing(chord, ARGV[10])
-- One that Celery has opened and not finished is opened anew: its members are known now.
local anew = barrier and barrier.foreign
if redis.call('EXISTS', chord.own) == 1 and not anew then
  if staged then redis.call('UNLINK', staged) end
  return {barrier and conclude(chord, barrier, token, lease) or 0, {}}
end
if staged and redis.call('EXISTS', staged) == 0 then return redis.error_reply('TRYAGAIN the staged members are gone') end
if anew then redis.call('UNLINK', chord.own) end
-- First what a full server refuses: after a write that it allows it would let all others pass.
redis.call('HSET', chord.own, 'body', ARGV[2], 'body_id', ARGV[3], 'policy', ARGV[4], 'size', ARGV[5],
  'counted', 0, 'failed', 0, 'opened', now_in_ms())
redis.call('UNLINK', chord.members, chord.claim, chord.parts, chord.counted, chord.size, chord.growth)
if ARGV[6] ~= '0' then redis.call('HSET', chord.own, 'adopted', 0) end
if ARGV[6] == '2' then redis.call('SET', chord.size, ARGV[5]) end
redis.call('ZADD', chord.open, now_in_ms() + tonumber(ARGV[7]), ARGV[1])
if staged then
  redis.call('RENAME', staged, chord.members)
  redis.call('PERSIST', chord.members)
end
for at = 12, #ARGV, 3 do redis.call('HSET', chord.members, ARGV[at], ARGV[at + 1]) end
barrier = standing(chord, ARGV[10])
local unread = {}
for at = 12, #ARGV, 3 do
  local state = ARGV[at + 2]
  local record = KEYS[CHORD_KEYS + (at - 12) / 3 + 1]
  if record then state = state_at(record) end
  if state == false then
    unread[#unread + 1] = ARGV[at]
  elseif state and is_ready(state) then
    count(chord, barrier, ARGV[at], state)
  end
end
return {conclude(chord, barrier, token, lease), unread}
