--[[
Forgets what is due in one map. Of a map in which nothing else is left, the head alone stays.

KEYS  see due.lua
ARGV  1 the name of the map   2 how much to forget at most   3 life of an outcome, milliseconds

Reply 1 where more is due already, else 0

A head whose process is "-" says that the map is not in the idle set: the next call puts it there.
]]

local time = redis.call('TIME')
local now = time[1] .. sub(format('%06d', time[2]), 1, 3)
forget(now, ARGV[3], ARGV[2])

local at = redis.call('ZRANGEBYSCORE', due, '-inf', '(+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
if at then
  redis.call('ZADD', idle, at, ARGV[1])
  return at + 0 <= now + 0 and 1 or 0
end
redis.call('ZREM', idle, ARGV[1])
local before, after = match(redis.call('HGET', records, HEAD) or '', '^(1 %d+ %d+) %S+( .*)$')
if redis.call('HLEN', records) > (before and 1 or 0) then
  if before then redis.call('HSET', records, HEAD, before .. ' -' .. after) end
else
  -- Written anew, so that Redis keeps it in its smallest form.
  redis.call('DEL', records, log, due)
  if before then redis.call('HSET', records, HEAD, before .. ' -' .. after) end
end
return 0
