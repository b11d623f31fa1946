--[[
Reads the history of one map from a point on, and the head, in one step.

KEYS  1 records (hash)   2 log (stream)
ARGV  1 id that the first entry has to be above, "-" for the oldest that is kept, "+" for none
      2 how many lines are enough
Reply {head or nil, {{id, {key, line, ...}}, ...}, {key, record, ...}}

A line whose value was left out because it is large has no newline. The third part has, for each of them, its key and
the record that stands.
]]

local PAGE = 10
local head = redis.call('HGET', KEYS[1], '\0head')
local from, enough = ARGV[1], tonumber(ARGV[2])
if from ~= '-' and from ~= '+' then from = '(' .. from end
local entries, lines, standing = {}, 0, {}
repeat
  local page = redis.call('XRANGE', KEYS[2], from, '+', 'COUNT', PAGE)
  for _, entry in ipairs(page) do
    local fields = entry[2]
    for i = 2, #fields, 2 do
      if fields[i - 1] ~= '' and not string.find(fields[i], '\n', 1, true) then
        standing[#standing + 1] = fields[i - 1]
        standing[#standing + 1] = redis.call('HGET', KEYS[1], fields[i - 1]) or ''
      end
    end
    entries[#entries + 1], lines, from = entry, lines + #fields / 2, '(' .. entry[1]
  end
until #page < PAGE or lines >= enough
return {head, entries, standing}
