"""The programs that the demo runs."""

LOOK_AROUND = """\
import glob, os, sys
print("Python", sys.version.split()[0], "in", os.getcwd(), "with", sorted(glob.glob("*.*")))"""
ANALYSE = """\
import pandas as pd
df = pd.read_csv("employee_data.csv")
print("shape", df.shape)
print(f"average salary {df['Salary'].mean():.2f}")
print(df["Department"].value_counts().to_string(header=False))"""
ASK_AGAIN = """\
by_department = df.groupby("Department")["Salary"].mean().sort_values()
print(by_department.round(2).to_string(header=False))"""
DRAW = """\
import matplotlib.pyplot as plt
fig, ax = plt.subplots(figsize=(8, 4), layout="constrained")
bars = ax.barh(by_department.index, by_department.values, color="#2a9d8f")
ax.bar_label(bars, fmt="{:,.0f}", padding=4)
ax.set(title="Average salary by department", xlabel="Salary", xlim=(0, 120_000))
ax.xaxis.set_major_formatter("{x:,.0f}")
ax.spines[["top", "right"]].set_visible(False)
plt.show()"""
RAISE = 'df["Bonus"].sum()'
TRAIN = """\
import time
for step in range(1, 11):
    time.sleep(4)
    trained = step * 10
    print(f"{trained} % trained")"""
NEVER_ENDS = """\
import itertools
for lap in itertools.count(1):
    print("lap", lap)
    time.sleep(0.5)"""
JOIN = """\
departments = pd.read_excel("departments.xlsx", sheet_name="Departments")
paid = df.groupby("Department")["Salary"].agg(["count", "sum"])
report = departments.merge(paid, left_on="Department", right_index=True)
report["Used"] = (report["sum"] / report["Budget"]).round(3)
report.to_excel("report.xlsx", index=False)
report[["Department", "Head", "count", "Used"]]"""
