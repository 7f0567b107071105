import Accessibility
import KDStudio
import SwiftUI

/// Where pictures are drawn.
struct DrawView: View {
    /// Goes to where models are added.
    let showModels: @MainActor () -> Void

    @Environment(Studio.self) private var studio

    var body: some View {
        Group {
            if let rules = studio.rules {
                Form {
                    Section { CanvasView() }
                    Section { StatusView() }
                    PromptSection(rules: rules)
                    if rules.takesStartingPicture || rules.needsControlPicture {
                        PicturesSection(rules: rules)
                    }
                    SettingsSection(rules: rules)
                    Section { MemoryView() }
                }
                .safeAreaInset(edge: .bottom) { DrawButton() }
            } else {
                NoModelView(showModels: showModels)
            }
        }
        .navigationTitle(studio.current?.title ?? "Studio")
        .navigationBarTitleDisplayMode(.inline)
        .onChange(of: studio.latest) {
            if !studio.latest.isEmpty {
                AccessibilityNotification.Announcement("The picture is finished.").post()
            }
        }
    }
}

/// What is shown where there is nothing to draw with.
struct NoModelView: View {
    /// Goes to where models are added.
    let showModels: @MainActor () -> Void

    var body: some View {
        ContentUnavailableView {
            Label("No model", systemImage: "shippingbox")
        } description: {
            Text("Add a folder that kdexport made for Core ML.")
        } actions: {
            Button("Add a model", action: showModels)
                .buttonStyle(.borderedProminent)
        }
    }
}

/// Begins or stops a picture.
struct DrawButton: View {
    @Environment(Studio.self) private var studio

    var body: some View {
        Group {
            if studio.phase.isBusy {
                Button(role: .cancel) {
                    studio.cancel()
                } label: {
                    Text("Cancel").frame(maxWidth: .infinity)
                }
                .buttonStyle(.bordered)
                .disabled(isCancelling)
            } else {
                Button {
                    studio.draw()
                } label: {
                    Text("Draw").frame(maxWidth: .infinity)
                }
                .buttonStyle(.borderedProminent)
                .disabled(!studio.canDraw)
                .accessibilityHint(studio.problems.first?.localizedDescription ?? "")
            }
        }
        .controlSize(.large)
        .padding()
        .background(.bar)
    }

    private var isCancelling: Bool {
        if case .drawing(let progress) = studio.phase { progress.isCancelling } else { false }
    }
}
