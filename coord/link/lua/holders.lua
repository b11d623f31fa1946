--[[
Reads the holders of a key, the oldest first.

KEYS  1 records (hash)   2 entries (sorted set)
ARGV  1 the key   2 the most holders to return
Reply {number of holders, field, ...}: the field of each holder, as apply.lua describes it
]]

local from, to = '[' .. ARGV[1] .. '\0', '(' .. ARGV[1] .. '\0:'
local reply = {redis.call('ZLEXCOUNT', KEYS[2], from, to)}
for _, entry in ipairs(redis.call('ZRANGEBYLEX', KEYS[2], from, to, 'LIMIT', 0, ARGV[2])) do
  reply[#reply + 1] = redis.call('HGET', KEYS[1], '\0holder:' .. string.match(entry, '[^%z]*$')) or nil
end
return reply
