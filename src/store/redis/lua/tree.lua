-- Functions for browsers' sessions and the app sessions beneath them (single sign-on). This file follows lib.lua in the scripts that need
-- these functions. They are not part of lib.lua, so that the scripts of a refresh and of a sign-out stay small: Lua's garbage collector
-- visits every function of a script.

-- Whether a session is a browser's: bit 2 of the flags (record.rs).
local function is_browser(session)
  return session.flags % 8 >= 4
end

-- Replaces the parent in `authentication`, the last part of a last use (last_use.rs): the authentication of the sign-in (9 bytes), the
-- parent's id (16 bytes or none), and the step-up (9 bytes or none). `parent` is the new id, or '' for no parent.
local function with_parent(authentication, parent)
  -- The lengths with a step-up: 18 bytes, or 34 with a parent as well.
  local step_up = (#authentication == 18 or #authentication == 34) and string.sub(authentication, -9) or ''
  return string.sub(authentication, 1, 9) .. parent .. step_up
end

-- The ids of a session and, if it is a browser's, of the sessions beneath it. `fields` is the account's whole hash: each field
-- is followed by its value.
local function with_children(fields, id, is_browser_session)
  local ids = { id }
  if is_browser_session then
    for i = 1, #fields, 2 do
      -- The field of a session's last use is its id and the byte 4 (record.rs).
      if #fields[i] == 17 and string.byte(fields[i], 17) == 4 and parent_of(fields[i + 1]) == id then
        ids[#ids + 1] = string.sub(fields[i], 1, 16)
      end
    end
  end
  return ids
end
