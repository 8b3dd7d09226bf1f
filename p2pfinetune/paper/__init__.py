"""The paper's populations: which texts, dealt to which peers, under which settings.

arXiv 2404.09753 measures three settings: AG News by topic, Wikipedia by language, code beside Wikipedia, each with
peers that hold one kind of text ("specific") or three quarters of one and a quarter of another ("mixed"). Here are
those, from text that is at hand, and corrected where the released code does not deal what the paper says
(docs/reproduction/ settings.md lists each defect; `settings` names them at the place).

    settings         who holds how much of what: shares, quotas, categories
    sources          files as pieces of plain text in an order drawn from the seed
    pool             draws pieces until quotas are met, no two nearly equal
    populations      puts the three together into a `Population`
    installed_text   three kinds of text that every installation has, for the demo

One thing differs on purpose: the paper trusts and reports on the same held-out text; here trust, guard and test are
three splits, so a scheme cannot look better for having chosen on what judges it.
"""
