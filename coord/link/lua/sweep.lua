--[[
Forgets expired data of one map. If nothing else is left, only the head stays.

KEYS  see due.lua
ARGV  1 the name of the map   2 the most members to forget   3 life of an outcome, milliseconds

Reply 1 if more has expired already, else 0

A head with the process "-" means that the map is not in the idle set: the next call adds it.
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
  -- Written anew, so that Redis stores it in its smallest encoding.
  redis.call('DEL', records, log, due)
  if before then redis.call('HSET', records, HEAD, before .. ' -' .. after) end
end
return 0
