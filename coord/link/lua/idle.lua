--[[
Returns names of maps of a namespace that have data to forget or events to end now. Those that are returned become the
last of them, so that maps that cannot be swept do not stand in the way of others; but nobody keeps them from other
nodes, as the one that asked may end, or may not be allowed to sweep them.

KEYS  1 idle (sorted set)
ARGV  1 the most names to return
Reply {name, ...}
]]

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local names = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now), 'LIMIT', 0, ARGV[1])
for _, name in ipairs(names) do
  redis.call('ZADD', KEYS[1], string.format('%.0f', now), name)
end
return names
