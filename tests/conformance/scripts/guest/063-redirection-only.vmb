# With redirection alone the long form names what the host goes by anyway.
case 024 063
side guest
version 6.0 features=0x02
offer relid=5
A> open relid=5
G> GPADL_HEADER relid=5
G< GPADL_CREATED relid=5
G> OPEN_CHANNEL relid=5 flag=5 connection=0x2005 flags=0 @size=156
