--[[
Reads the history of one map from a point on, and the head, in one step.

KEYS  1 records (hash)   2 head (string)   3 log (stream)
ARGV  1 id that the first line has to be above, "-" for the oldest that is kept, "+" for no line
      2 how many lines at most
Reply {head or nil, {{id, {field, value, ...}}, ...}}

A line whose value was left out because it is large gets a field "standing" with the record that stands.
]]

local head = redis.call('GET', KEYS[2])
local from = (ARGV[1] == '-' or ARGV[1] == '+') and ARGV[1] or '(' .. ARGV[1]
local lines = redis.call('XRANGE', KEYS[3], from, '+', 'COUNT', ARGV[2])
for _, line in ipairs(lines) do
  local fields = line[2]
  for i = 1, #fields, 2 do
    if fields[i] == 'omitted' then
      local standing = redis.call('HGET', KEYS[1], fields[2])
      if standing then
        fields[#fields + 1] = 'standing'
        fields[#fields + 1] = standing
      end
      break
    end
  end
end
return {head, lines}
