"""Messages to the prompt of the assistant's next turn, and its answer taken apart again, with the model's own template.

A dialect reads its JSON into a `conversation.Conversation`, asks `turn.next_turn` for the turn, and turns what the
turn's reader makes of the engine's text (`answer`) into its own shapes. `turn` shows how in five lines.
"""
