--[[
Reads records of one map and its head, in one step: the answers are as of that head.

KEYS  1 records (hash)   2 head (string)
ARGV  the keys
Reply {head or nil, record or nil, ...}
]]

local head = redis.call('GET', KEYS[2])
if #ARGV == 0 then return {head} end
local found = redis.call('HMGET', KEYS[1], unpack(ARGV))
return {head, unpack(found)}
