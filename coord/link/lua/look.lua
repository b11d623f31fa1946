--[[
Reads some records of one map, the head, and how long those of them will stand that are events with a TTL, as of one
moment.

KEYS  1 records (hash)   2 due (sorted set)
ARGV  the keys
Reply {head or nil, {record or nil, ...}, {milliseconds, ...}}: the time until the end of each; 0 if it has passed, or
the key has none
]]

local LATER = 1125899906842624
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local left = {}
for i, key in ipairs(ARGV) do
  left[i] = math.max(0, (redis.call('ZSCORE', KEYS[2], key) or 0) - LATER - now)
end
return {redis.call('HGET', KEYS[1], '\0head'), redis.call('HMGET', KEYS[1], unpack(ARGV)), left}
