--[[
Applies a batch of calls of one node to one map, in one step. due.lua is prepended. This file has what every batch needs
and the calls for events; apply_holders.lua, apply_locks.lua and apply_counters.lua have the other calls, and
apply_calls.lua goes through the batch and writes. Together they are one script.

KEYS  see due.lua
ARGV  1 the settings, separated by spaces:
          flags: "-" for none, "n" for one named call (`once=`); before it, "s" on a cluster, "c" on one without sharded
              pub/sub
          number of this batch, and that of the batch before it if that is not answered yet, else 0
          newest revision that the caller has seen: generation, number
          incarnation of the node (for a named call: the one made from the name), and the node's name
          doorbell channel (the channel of a key is this, a colon, and the key)
          lines of history to keep
          retention of pending keys' records, milliseconds
          life of the outcome, milliseconds
          length above which the history leaves a value out
      2 a letter for each call (2,000 at most): F fires, X fails, P pulses, R resets; T fires with a TTL, M moves the
      end of an event that has a TTL, E ends it if its end has passed; H adds a holder, or gives it another value; U
      removes one (withdraws), D removes one if its lease is over, V removes all and resets (evicts); C counts; L adds a
      holder of a lock
      then the key of each call; then the data of each (JSON; for T the TTL in milliseconds and a newline before it; for
      M the TTL; for E the "GENERATION,NUMBER" of the record to end, for R of the one to reset, or nothing; for H
      "HOLDER LEASE NEED" and a newline before it, for L "HOLDER LEASE GENERATION,NUMBER", with the token that it was
      granted, or 0,0; for U and D "HOLDER", for U also "HOLDER q", if it may be removed only while it is not the owner,
      and "HOLDER GENERATION,NUMBER", if only while it is the owner with this token; for V "-"; for C "N,GOAL,NAME": how
      much to add, the goal or 0, and the name that counts once, or nothing); then, if not all calls are made by the
      node itself, the names of their nodes, with commas

Reply "GENERATION NUMBER TIME\n": NUMBER is the last one used before the first change, TIME in microseconds.
Then, for each call, one of
      +            applied, under the next number
      *LEN:RECORD  applied, under the next number, as RECORD (a reset, an end, a TTL; a named call)
      ^LEN:RECORD  the end of RECORD, the current one, was moved; it has no new number
      =LEN:RECORD  nothing changed: RECORD is the current one
      ;LEN:RECORD  nothing changed: RECORD is the current one, an event whose end has passed
      -            nothing changed: there is no record
      &            counted, in the change of the count of that key before it
      !LEN:ERROR   not applied
with a ~ before it if a number was used for a change that had to be undone, and before *, = and & of a count what the
counter stands at after it.

A batch that was applied before, if it is the node's last one or the one before, gets the same reply with a = before it.
The outcomes are remembered without values: a RECORD has its value if it is still the current one, else it ends with its
header (as it does if the reply would be large).

Errors, in place of the reply, mean that nothing was applied. They begin with
      STALE   a later batch was applied
      EARLY   the batch before is not applied
      REUSED  the name was given to another call
      NEWER   the data has a later layout

Some fields of the hash are not records; no key begins as they do:
      \0head              "LAYOUT GENERATION NUMBER PROCESS DATA GENERATION NUMBER": the revision of the newest line,
                          the run id and the replication id of the server that wrote it (16 digits of each), and the
                          revision that its generation follows; then the last number used, if that is higher
      \0call:INCARNATION:0, :1  "NUMBER\nREPLY": the node's last batch with an even or odd number, and its outcome
      \0holder:HOLDER     "SEQUENCE LEASE NEED NODE KEY\nVALUE": a holder of a key; its place among them, and how many
                          the key needs to be latched; 0 for a lock, which only one of them owns
      \0clock             see clock.lua

A record is a header and a value: '["KIND",[GENERATION,NUMBER],TIME,"NODE"]\nVALUE'. The header may have a fifth
element, a JSON object: its "wake" is the last wake, which a reset or an end keeps; its "ttl" is the TTL in milliseconds
with which it was fired: its end is in the due set. Its "held" is the holder whose value it has, its "since" the
revision at which the key became latched, if that was an earlier one. A lock that somebody owns has a "token", the
revision of the grant. A counter has a "count" and, once one was given, a
"goal"; it is "counted" until it reaches that, and then "fired" with the count as its value. While it is counted, its
wake and value are those of the event before it. A reset or an end keeps all other members.

The lines of one batch are one entry of the stream, under the number of the last: key and record in turn. If the first
does not follow the number before its own, an empty key with the "GENERATION NUMBER" that it follows comes first.
]]

-- A lone call finds little of this in the processor's caches, and pays for each function, table and command that it
-- uses. So the usual path uses few, and numbers that need no arithmetic stay text.

local LAYOUT, NOTHING, DAY = '2', '0\n', 86400000000
-- What stands for the record of a key that has none.
local NONE = '["reset",[0,0],0,"-"]\n'
-- The highest count, 2^53 - 1: doubles are exact up to it, and one more is not taken for it.
local HIGHEST = 9007199254740991
-- The kinds of records, by the byte of the call's letter.
local FIRE, PULSE, RESET, TIMED, MOVE, END, HOLD, WITHDRAW, LOSE, EVICT = 70, 80, 82, 84, 77, 69, 72, 85, 68, 86
local COUNT, LOCK = 67, 76
local KINDS = {
  [FIRE] = 'fired', [88] = 'failed', [PULSE] = 'pulsed', [RESET] = 'reset', [TIMED] = 'fired', [END] = 'expired',
  [WITHDRAW] = 'withdrawn', [LOSE] = 'expired', [EVICT] = 'reset', [COUNT] = 'counted', [LOCK] = 'fired',
}

-- == Settings ==
-- Invalid arguments are refused before anything is written: a later error would leave the batch half applied.

local SETTINGS = '^([-csn]+) (%d+) (%d+) (%d+) (%d+) (%w+) ([%w._-]+) (%S+) ([1-9]%d*) (%d+) ([1-9]%d*) (%d+)$'
local flags, called, before, generation_seen, number_seen, incarnation, node, doorbell, lines, retention, life,
  large = match(ARGV[1] or '', SETTINGS)
local letters = ARGV[2] or ''
local calls = #letters
local nodes = ARGV[3 + 2 * calls]
local named = flags == 'n' or flags == 'sn' or flags == 'cn'
if not flags or #called > 16 or #before > 16 or #generation_seen > 16 or #number_seen > 16 or #lines > 16
  or #retention > 16 or #life > 16 or #large > 16 or calls > 2000 or #ARGV ~= 2 + 2 * calls + (nodes and 1 or 0)
  or find(letters, '[^FXPRTMEHUDVCL]') or (nodes and find(nodes, '[^%w._,-]')) or (named and calls ~= 1) then
  return redis.error_reply('ERR the settings given to apply.lua are not what they should be')
end
local clustered = flags ~= '-' and flags ~= 'n'
local publish = (flags == 's' or flags == 'sn') and 'SPUBLISH' or 'PUBLISH'
-- Whether a text has control characters of ASCII. In a long one, to search for each, by memchr, takes a fifth of the
-- time of a pattern.
local function has_controls(text)
  if #text < 1000 then return not find(text, '^%C*$') end
  for code = 0, 32 do
    if find(text, string.char(code == 32 and 127 or code), 1, true) then return true end
  end
end
-- Keys have none, C1 in UTF-8 included, as they are shown on terminals. All are checked at once.
local keys = calls == 1 and ARGV[3] or table.concat(ARGV, '', 3, 2 + calls)
if has_controls(keys) or find(keys, '\194', 1, true) and find(keys, '\194[\128-\159]') then
  return redis.error_reply('ERR the calls given to apply.lua are not what they should be')
end

-- == Current state ==

local number = called + 0
local CALL, OTHER = '\0call:' .. incarnation .. ':0', '\0call:' .. incarnation .. ':1'
if number % 2 == 1 then CALL, OTHER = OTHER, CALL end
-- Whether there are other calls than fires, failures and pulses.
local special = find(letters, '[^FXP]')
local found = try('HMGET', records, HEAD, CALL, OTHER, unpack(ARGV, 3, 2 + calls))
if found.err then return redis.error_reply(failure(found, records)) end
local head, last = found[1], found[2]

local generation, newest, process, data, follows, spent = '0', '0', '-', '', '0 0', ''
if head then
  generation, newest, process, data, follows, spent =
    match(head, '^[12] (%d+) (%d+) (-?%w*) (%w+) (%d+ %d+) ?(%d*)$')
  if not generation then
    local later = (match(head, '^(%d+) ') or '0') + 0 > LAYOUT + 0
    return redis.error_reply(later and 'NEWER ' .. records .. ' was written by a newer coord'
      or 'CORRUPT the head of ' .. records .. ' is not one of coord\'s')
  end
end

-- == Repetitions ==
-- Return the remembered outcome, with the values of the records that are still current. Of these at most 256 KiB: the
-- reply may have been lost because it exceeded the server's limits. What is not an outcome is returned as it is.

local done, at = match(last or NOTHING, '^(%d+)\n()')
if done == called then
  -- A write, so that a WAIT after the repetition has something to wait for.
  try('HSET', records, CALL, last)
  local budget, parts, begin = 262144, {'=' .. (match(last, '^%d+ %d+ %d+\n', at) or '')}, at
  at = at + #parts[1] - 1
  for i = 1, calls do
    local mark, next = match(last, '^(~*%d*[-+*=;!^&])()', at)
    if not mark then return '=' .. sub(last, begin) end
    at = next
    if find(mark, '[*=;!^]') then
      local length, from = match(last, '^(%d+):()', at)
      if not length then return '=' .. sub(last, begin) end
      at = from + length
      local text, current = sub(last, from, at - 1), found[i + 3]
      if current and #current <= budget and sub(current, 1, #text + 1) == text .. '\n' then
        budget, text = budget - #current, current
      end
      mark = mark .. #text .. ':' .. text
    end
    parts[i + 1] = mark
  end
  return table.concat(parts)
end
local latest, other = (done or 0) + 0, (match(found[3] or NOTHING, '^(%d+)\n') or 0) + 0
if other > latest then latest = other end
if named and latest > 0 then
  return redis.error_reply('REUSED the name was given to another call')
end
if latest > number then
  return redis.error_reply('STALE call ' .. called .. ', a later one was applied')
end
if before ~= '0' and before + 0 ~= latest then
  return redis.error_reply('EARLY call ' .. called .. ', the one before it was not applied')
end

-- == Generation ==
-- A new generation begins if the data was lost, if its replication id has changed, or if the caller has seen a later
-- revision. So no revision is used twice, for changes that were lost or that another server wrote. Every batch reads
-- INFO: a primary that was a replica for a while is the same process, and connections to it were not lost. An undone
-- change has used its number, as the stream takes no number twice.

local time = redis.call('TIME')
local now = time[1] .. format('%06d', time[2])
local milliseconds = sub(now, 1, -4)
-- The revision that the next line follows, if that is not the number before its own.
local after, begins
if spent == '' then spent = newest elseif spent + 0 > newest + 0 then after = generation .. ' ' .. newest end

local info = try('INFO', 'replication')
if failure(info, 'INFO') then return redis.error_reply(failure(info, 'INFO')) end
-- A plain search takes a tenth of the time of a pattern.
local _, at_id = find(info, 'master_replid:', 1, true)
local actual = at_id and sub(info, at_id + 1, at_id + 16) or ''
if not find(actual, '^%x') then return redis.error_reply('ERR INFO does not tell the master_replid of this server') end
local ahead = generation_seen + 0 - generation
if actual ~= data or ahead > 0 or (ahead == 0 and number_seen + 0 > spent + 0) then
  local logged, stream = 0, try('XINFO', 'STREAM', log)
  for i = 1, #stream, 2 do
    if stream[i] == 'last-generated-id' then logged = match(stream[i + 1], '^%d+') + 0 end
  end
  -- Not the clock alone: it may have been set back, or differ from the last server's. The microseconds tell apart two
  -- servers that begin a generation after the same one, if the data of the first was lost. The caller's generation
  -- counts up to a day ahead of the clock.
  local highest = math.max(generation + 0, math.min(generation_seen + 0, now + DAY), logged)
  follows = generation .. ' ' .. newest
  generation = format('%.0f', now + 0 > highest and now + 0 or highest + 1 + time[2])
  data, after, begins = actual, follows, true
end
-- If the map is not in the idle set, or was written under another process, this batch registers it with its head.
local registers = begins or process == '-'
if registers then
  local server = try('INFO', 'server')
  process = type(server) == 'string' and sub(match(server, 'run_id:(%x+)') or '0', 1, 16) or '0'
end

-- == Transitions ==
-- Decide everything first, and then write: one command writes the records of all calls, the head and the outcome, as
-- they are if nothing is refused.

local first, count, text, largest, kinds = spent + 0, spent + 0, spent, large + 0, {byte(letters, 1, calls)}
-- '%d' is several times as fast as '%.0f', but overflows here if a C long has 32 bits.
local decimal = count + calls < 2147483648 and '%d' or '%.0f'
local record_start, record_end = '",[' .. generation .. ',', '],' .. now .. ',"' .. node .. '"'
local current, made, outcomes, written, w = {}, {}, {}, {CALL, '', HEAD, '', '', ''}, 4
-- The records in the outcomes; the entry of the stream, if it differs from the arguments of HSET from the fifth on; the
-- keys that are pending now, and those that no longer are.
local shown, entry, pending, ended = nil, after and {'', after}, nil, nil

-- The ends of events that have a TTL, in milliseconds, by key, as this batch leaves them; what the due set had before;
-- and the earliest end that this batch sets.
local ends, was, soonest
-- Of each call, the commands that change what belongs to its key beside the record. They run last.
local commands
local end_of, is_over, set_end

-- Notes when to forget the record of a key that has changed, or when its event ends.
local function note_due(kind, key, ttl)
  if ttl then
    set_end(key, ttl)
  elseif kind ~= FIRE and kind ~= 88 then
    pending = pending or {}
    pending[#pending + 1], pending[#pending + 2] = format('%.0f', milliseconds + retention), key
  else
    ended = ended or {}
    ended[key] = true
    return
  end
  if ended then ended[key] = nil end
end

local CORRUPT = '!52:CORRUPT the record that stands is not one of coord\'s'
local COUNTER = '!35:KIND it is a counter; reset ends it'
local LOCKED = '!39:KIND it is a lock, which somebody holds'
-- Whether all there is to do is to write a first record.
local bare = calls == 1 and not special and not found[4]
-- The lease clock, if a record may end: a map without one has no holders.
local clock = (special or not bare and find(letters, 'P', 1, true) and (calls > 1 or find(found[4], '^%["f')))
  and try('HGET', records, '\0clock')
local changes_holders, counts = special and find(letters, '[HUDVL]'), special and find(letters, 'C', 1, true)

-- == Records ==

local parsed, others_of, pending_tail, no_event, refusal

if not bare then
  -- Returns a record's kind, its revision, its further members as they stand in the header, and where its value begins;
  -- nil if it is not one of coord's.
  parsed = function(record)
    local word, revision, tail, from = match(record, '^%["(%l+)",%[(%d+,%d+)%],%d+,"[%w._-]+"([^\n]*)%]\n()')
    local known = word == 'fired' or word == 'failed' or word == 'pulsed' or word == 'reset' or word == 'expired'
      or word == 'withdrawn' or word == 'counted' and find(tail, '"count":%d')
    if known and (tail == '' or find(tail, '^,{".+}$')) then return word, revision, tail, from end
  end

  -- Returns the members of a record that its successor keeps, and the end of their object.
  others_of = function(tail)
    if tail == '' then return '}' end
    local others = gsub(',' .. sub(tail, 3), ',"ttl":%d+', '')
    if not find(others, ',"[hstcg]') then return others end
    others = gsub(gsub(gsub(others, ',"held":"[^"]*"', ''), ',"since":%[[%d,]*%]', ''), ',"token":%[[%d,]*%]', '')
    return (gsub(gsub(others, ',"count":%d+', ''), ',"goal":%d+', ''))
  end

  -- Returns the members of a pending record that follows a latched one: it keeps the wake.
  pending_tail = function(word, revision, tail)
    return ',{"wake":["' .. word .. '",' .. revision .. ']' .. others_of(tail)
  end

  -- Returns the refusal of a call for an event, if a record with this tail is none.
  no_event = function(tail)
    return tail ~= '' and (find(tail, '"count":%d') and COUNTER or find(tail, '"token":[', 1, true) and LOCKED)
  end

  -- Returns the outcome of a call that is refused.
  refusal = function(text)
    return '!' .. #text .. ':' .. text
  end

  -- Returns the end of an event that has a TTL: a past time if it is not in the due set, no end if that cannot be read.
  end_of = function(key)
    ends, was = ends or {}, was or {}
    if not ends[key] then
      local score = try('ZSCORE', due, key)
      was[key] = type(score) == 'string' and score or nil
      ends[key] = type(score) == 'table' and math.huge or (was[key] or 0) - LATER
    end
    return ends[key]
  end

  -- Returns whether a record with this tail is an event whose end has passed.
  is_over = function(key, tail)
    return find(tail, '"ttl":%d') and end_of(key) <= milliseconds + 0
  end

  -- Has an event end so many milliseconds from now.
  set_end = function(key, ttl)
    local at = end_of(key) and milliseconds + ttl
    ends[key], soonest, pending = at, math.min(soonest or at, at), pending or {}
    pending[#pending + 1], pending[#pending + 2] = format('%.0f', LATER + at), key
  end
end

-- == Decisions ==

local decide, take_over, forget_names

if not bare then
  -- Returns what `decide` does for a key that would be pending now, with these members and this value.
  local function end_record(key, tail, revision, members, value)
    if take_over then return take_over(key, tail, revision, members, value) end
    return nil, members, value
  end

  -- Has the names forgotten that have counted on a key.
  forget_names = function(i, key)
    commands = commands or {}
    commands[i] = {{'ZREMRANGEBYLEX', entries, '[' .. key .. '\0who\0', '(' .. key .. '\0who\1'}}
  end

  -- Decides on a call for a key that has a record. Returns the outcome if nothing changes; else nil, the members of the
  -- header, the value, and if they are not the call's own the kind and the node.
  decide = function(kind, key, old, value, ttl, i)
    local word, revision, tail, from = parsed(old)
    if not word then
      -- A reset repairs the key.
      if kind == RESET and value == '' then return end_record(key, '', nil, '', '') end
      return CORRUPT
    end
    local latched, wrong = word == 'fired' or word == 'failed', no_event(tail)
    local counter = wrong == COUNTER
    if wrong and kind ~= RESET and kind ~= END then return wrong end
    local timed = latched and find(tail, '"ttl":%d')
    local over = timed and is_over(key, tail)
    if ttl and timed and not over then
      -- To fire again makes the end later, never earlier.
      if kind == MOVE or milliseconds + ttl > end_of(key) then set_end(key, ttl) end
      return kind == MOVE and '^' or '='
    end
    if kind == MOVE then return over and ';' or '=' end
    if kind ~= RESET and kind ~= END then
      if latched and kind == PULSE then return end_record(key, tail, not over and revision, '', value) end
      -- An event whose end has passed does not stand in the way of the next.
      return latched and not over and '=', '', value
    end
    if not (latched or counter) or value ~= '' and value ~= revision or kind == END and not over then
      return over and ';' or '='
    end
    if counter then forget_names(i, key) end
    -- Keep the last wake, for waiters that were disconnected when the key was fired.
    local members = latched and pending_tail(word, revision, tail)
      or gsub(',{' .. sub(others_of(tail), 2), '^,{$', '')
    return end_record(key, tail, latched and not over and revision, members, sub(old, from))
  end
end
