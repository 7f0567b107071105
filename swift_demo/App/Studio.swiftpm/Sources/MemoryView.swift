import KDStudio
import SwiftUI

/// The memory in use, read every two seconds.
struct MemoryView: View {
    @Environment(Studio.self) private var studio

    var body: some View {
        TimelineView(.periodic(from: .now, by: 2)) { _ in
            LabeledContent("Memory", value: studio.memory?.text ?? "unknown")
                .font(.footnote)
        }
    }
}
