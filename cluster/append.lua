-- Appends one entry to each of several partitions' logs, fenced by epoch and sequence, idempotent by batch id.
-- KEYS: head and log of each partition. ARGV: epoch, sequence, batch id and entry of each.
-- Answers for each partition: "DONE" (now, or by this same call before), "FENCED", or "GAP <last sequence>".
local answers = {}
for i = 1, #KEYS / 2 do
  local head, log = KEYS[2 * i - 1], KEYS[2 * i]
  local epoch, sequence, batch_id = ARGV[4 * i - 3], ARGV[4 * i - 2], ARGV[4 * i - 1]
  local now = redis.call('HMGET', head, 'epoch', 'sequence', 'batch_id')
  local last = now[2] or '0'
  if now[1] ~= epoch then
    answers[i] = 'FENCED'
  elseif last == sequence and now[3] == batch_id then
    answers[i] = 'DONE'
  elseif tonumber(last) + 1 ~= tonumber(sequence) then
    answers[i] = 'GAP ' .. last
  else
    redis.call('XADD', log, sequence .. '-0', 'e', ARGV[4 * i])
    redis.call('HSET', head, 'sequence', sequence, 'batch_id', batch_id)
    answers[i] = 'DONE'
  end
end
return answers
