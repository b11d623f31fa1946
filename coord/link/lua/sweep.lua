--[[
Forgets expired data of one map, and returns the events whose end has passed, for a call to end each. If nothing else is
left, only the head stays.

KEYS  see due.lua
ARGV  1 the name of the map   2 the most members to forget, and events to return   3 life of an outcome, milliseconds

Reply {KEY, "GENERATION,NUMBER", ...}: of each event to end, the revision of its record

A head with the process "-" means that the map is not in the idle set: the next call adds it.
]]

local time = redis.call('TIME')
local now = time[1] .. sub(format('%06d', time[2]), 1, 3)
forget(now, ARGV[3], ARGV[2])

-- Returns the events whose end has passed. What is not such an event, or cannot be a key, is removed from the due set.
local function over()
  local keys, events = redis.call('ZRANGEBYSCORE', due, LATER, format('%.0f', LATER + now), 'LIMIT', 0, ARGV[2]), {}
  for _, key in ipairs(keys) do
    local record = redis.call('HGET', records, key) or ''
    local kind, revision = match(record, '^%["(%l+)",%[(%d+,%d+)%],[^\n]*"ttl":%d')
    local possible = key ~= '' and not find(key, '%c') and not find(key, '\194[\128-\159]')
    if possible and (kind == 'fired' or kind == 'failed') then
      events[#events + 1], events[#events + 2] = key, revision
    elseif key == '' then
      redis.call('ZADD', due, 'inf', '')
    else
      redis.call('ZREM', due, key)
    end
  end
  return events
end

-- Returns the time at which this map has to be swept next; nil if nothing in it becomes due.
local function next_sweep()
  local at = redis.call('ZRANGEBYSCORE', due, '-inf', '(+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
  local ends = redis.call('ZRANGEBYSCORE', due, LATER, '(+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
  -- A call ends what is over. Until then, the map stays due: the node that was told may not be allowed to call, or may
  -- have ended.
  local later = ends and math.max(ends - LATER, now)
  if at and at + 0 < LATER then return math.min(at, later or at) end
  return later
end

local events, at = over(), next_sweep()
if at then
  redis.call('ZADD', idle, format('%.0f', at), ARGV[1])
  return events
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
return events
