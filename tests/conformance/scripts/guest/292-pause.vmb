# A guest that pauses its host says nothing itself until it goes on.
case 292 293
side guest
version 6.0 features=PAUSE_RESUME
offer relid=5
A> pause
G> PAUSE
A> open relid=5
G> silence
G< PAUSE_RESPONSE
A< done op=pause
= paused 1
A> pause
A< error op=pause kind=UsageError
A> unpause
G> RESUME
G> GPADL_HEADER relid=5
= paused 0
A> unpause
A< error op=unpause kind=UsageError
