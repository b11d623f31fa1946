--[[
Reads the heads of many maps.

KEYS  the records (hash) of each map
Reply for each map its head, nil where it has no data, "!" where its head cannot be read
]]

local heads = {}
for i = 1, #KEYS do
  local head = redis.pcall('HGET', KEYS[i], '\0head')
  -- Not nil: that would say that the map's data is lost.
  if type(head) == 'table' then head = '!' end
  heads[i] = head
end
return heads
