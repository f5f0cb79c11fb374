# Without a feature that needs it the open has its short form, at 6.0 too.
case 061 024
side guest
version 6.0
offer relid=5
A> open relid=5
G> GPADL_HEADER relid=5
G< GPADL_CREATED relid=5
G> OPEN_CHANNEL relid=5 @size=148
