import asyncio, pytest
from pathlib import Path
from bridge.store.store import Store
from tests.rigs.store import acceptance

async def test_positions_after_a_halved_batch(tmp_path):
    store = Store(f"sqlite:///{tmp_path/'r.db'}"); store.ensure_destinations(["pacs"])
    items=[acceptance(f"C{i}","pacs", keys=(f"k{i%3}",)) for i in range(6)]
    items[3].message.header.__class__
    bad=acceptance("BAD","pacs",keys=(None,))
    res=await asyncio.gather(*(store.accept(x) for x in items[:3]+[bad]+items[3:]), return_exceptions=True)
    print(res)
    await asyncio.gather(*(store.accept(acceptance(f"D{i}","pacs",keys=(f"k{i%3}",))) for i in range(6)))
    rows=store.deliveries(limit=100)
    pos=[r["position"] for r in rows]
    print(pos)
    assert len(set(pos))==len(pos)
    store.close()
