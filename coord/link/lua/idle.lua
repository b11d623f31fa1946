--[[
Returns names of maps of a namespace that have data to forget now. A name is not returned again for ten seconds: by then
the map has been swept, and is in the set with the time of its next sweep; or the node that asked has lost its link.

KEYS  1 idle (sorted set)
ARGV  1 the most names to return
Reply {name, ...}
]]

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local names = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now), 'LIMIT', 0, ARGV[1])
for _, name in ipairs(names) do
  redis.call('ZADD', KEYS[1], string.format('%.0f', now + 10000), name)
end
return names
