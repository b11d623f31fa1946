--[[
Reads the history of one map from an entry on, and the head, in one step.

KEYS  1 records (hash)   2 log (stream)
ARGV  1 id after which to begin, "-" for the oldest entry, "+" for no entries
      2 how many lines are enough   3 how many bytes are enough
Reply {head or nil, {{id, {key, line, ...}}, ...}, {key, record, ...}}

A line whose large value was left out has no newline. The third part has the current record of its key, if that still
has the value; each record once. Entries are complete, and there is at least one if the history has any.
]]

local PAGE = 10
local find, match = string.find, string.match
local head = redis.call('HGET', KEYS[1], '\0head')
local from, lines, bytes = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
if from ~= '-' and from ~= '+' then from = '(' .. from end
local entries, standing, headers = {}, {}, {}

-- Adds the current record, if it has the value that this line leaves out: only the line of the record's last wake has
-- its revision in the record's header.
local function add_value(key, line)
  local wake = match(line, '^%["[fp]%l+",%[(%d+,%d+%])')
  if not wake then return end
  if not headers[key] then
    local record = redis.call('HGET', KEYS[1], key) or ''
    -- To read a record costs the server a fraction of sending it.
    headers[key], bytes = match(record, '^[^\n]*'), bytes - #record / 8
  end
  if find(headers[key], wake, 1, true) then
    local record = redis.call('HGET', KEYS[1], key)
    standing[#standing + 1], standing[#standing + 2], bytes = key, record, bytes - #record
  end
end

repeat
  local page = redis.call('XRANGE', KEYS[2], from, '+', 'COUNT', PAGE)
  for _, entry in ipairs(page) do
    if lines <= 0 or bytes <= 0 then break end
    local fields = entry[2]
    for i = 2, #fields, 2 do
      bytes = bytes - #fields[i - 1] - #fields[i]
      if not find(fields[i], '\n', 1, true) then add_value(fields[i - 1], fields[i]) end
    end
    entries[#entries + 1], lines, from = entry, lines - #fields / 2, '(' .. entry[1]
  end
until #page < PAGE or lines <= 0 or bytes <= 0
return {head, entries, standing}
