--[[
Reads the heads of many maps.

KEYS  the records (hash) of each map
Reply for each map its head, nil if it has no data, "!" if its head cannot be read
]]

local heads = {}
for i = 1, #KEYS do
  local head = redis.pcall('HGET', KEYS[i], '\0head')
  -- Not nil, which would mean that the map's data is lost.
  if type(head) == 'table' then head = '!' end
  heads[i] = head
end
return heads
